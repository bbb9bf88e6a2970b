// axios with Node's adapter.
import http from 'node:http';
import https from 'node:https';
import { Readable } from 'node:stream';
import axios from 'axios';
import { ca, httpCases, pieces, run } from './shared.mjs';

const open = (url) => {
  const client = axios.create({
    baseURL: url,
    httpAgent: new http.Agent({ keepAlive: true, maxSockets: 1 }),
    httpsAgent: new https.Agent({ keepAlive: true, maxSockets: 1, ca: ca() }),
    responseType: 'arraybuffer',
    validateStatus: () => true,
    maxRedirects: 0,
    proxy: false,
  });
  const call = async ({ method, path, body, chunked, fields }) => {
    const data = chunked ? Readable.from(pieces(body)) : body;
    const response = await client.request({ method, url: path, data, headers: fields });
    const names = Object.entries(response.headers.toJSON()).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
    return { status: `${response.status} ${response.statusText}`, fields: names, body: Buffer.from(response.data) };
  };
  return { call };
};

await run({ http1: httpCases(open) });
