// Node's `http` and `https`.
import http from 'node:http';
import https from 'node:https';
import { ca, httpCases, pairs, pieces, run } from './shared.mjs';

const open = (url) => {
  const { Agent, request } = url.startsWith('https') ? https : http;
  const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: ca() });
  const call = ({ method, path, body, chunked, fields = {} }) =>
    new Promise((resolve, reject) => {
      const informational = [];
      const headers = { ...fields, ...(body && !chunked && { 'content-length': body.length }) };
      const outgoing = request(url + path, { method, agent, headers });
      outgoing.on('error', reject);
      outgoing.on('information', ({ statusCode }) => informational.push(statusCode));
      outgoing.on('response', async (response) => {
        const parts = [];
        response.on('error', reject);
        for await (const part of response) parts.push(part);
        const trailers = pairs(response.rawTrailers);
        const status = `${response.httpVersion} ${response.statusCode} ${response.statusMessage}`;
        resolve({ status, fields: pairs(response.rawHeaders), body: Buffer.concat(parts), trailers, informational });
      });
      const send = () => {
        if (chunked) for (const piece of pieces(body)) outgoing.write(piece);
        else if (body) outgoing.write(body);
        outgoing.end();
      };
      if (!fields.expect) return send();
      outgoing.on('continue', () => {
        informational.push(100);
        send();
      });
      return outgoing.flushHeaders();
    });
  return { call, close: () => agent.destroy() };
};

await run({ http1: httpCases(open, { trailers: true }) });
