// got, with http2-wrapper over HTTP/2.
import { Readable } from 'node:stream';
import got from 'got';
import http from 'node:http';
import https from 'node:https';
import { ca, httpCases, pairs, pieces, run } from './shared.mjs';

const open = (http2) => (url) => {
  const agents = { http: new http.Agent({ keepAlive: true, maxSockets: 1 }), https: new https.Agent({ keepAlive: true, maxSockets: 1 }) };
  const client = got.extend({
    http2,
    ...(!http2 && { agent: agents }),
    https: { certificateAuthority: ca() },
    retry: { limit: 0 },
    throwHttpErrors: false,
    responseType: 'buffer',
  });
  const call = async ({ method, path, body, chunked, fields }) => {
    const data = chunked ? Readable.from(pieces(body)) : body;
    const response = await client(url + path, { method, body: data, headers: fields });
    const status = `${response.httpVersion} ${response.statusCode}`;
    const names = http2
      ? Object.entries(response.headers).flatMap(([name, value]) => [value].flat().map((one) => [name, one]))
      : pairs(response.rawHeaders);
    return { status, fields: names.filter(([name]) => name !== ':status'), body: response.rawBody ?? response.body, trailers: Object.entries(response.trailers ?? {}) };
  };
  return { call };
};

await run({ http1: httpCases(open(false), { trailers: true }), http2: httpCases(open(true), { trailers: true }) });
