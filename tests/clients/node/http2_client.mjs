// Node's `http2`.
import http2 from 'node:http2';
import { ca, httpCases, pieces, run } from './shared.mjs';

const open = (url) => {
  const session = http2.connect(url, { ca: ca() });
  session.on('error', () => {});
  const call = ({ method, path, body, chunked, fields = {} }) =>
    new Promise((resolve, reject) => {
      const informational = [];
      const parts = [];
      let head;
      let trailers = [];
      const length = body && !chunked && { 'content-length': body.length };
      const stream = session.request({ ':method': method, ':path': path, ...fields, ...length }, { endStream: !body });
      stream.on('headers', (headers) => informational.push(headers[':status']));
      stream.on('response', (headers) => (head = headers));
      stream.on('trailers', (headers) => (trailers = Object.entries(headers)));
      stream.on('data', (part) => parts.push(part));
      // An error after a whole response, as of an upload that was cut off, is no failure for a user of the response.
      stream.on('error', (error) => (head ? undefined : reject(error)));
      stream.on('close', () => {
        if (!head) return reject(new Error(`no response, stream closed with code ${stream.rstCode}`));
        const { ':status': status, ...rest } = head;
        const all = Object.entries(rest).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
        return resolve({ status: `${status} end ${stream.rstCode}`, fields: all, body: Buffer.concat(parts), trailers, informational });
      });
      const send = () => {
        if (chunked) for (const piece of pieces(body)) stream.write(piece);
        else if (body) stream.write(body);
        if (body) stream.end();
      };
      if (fields.expect) stream.on('continue', () => (informational.push(100), send()));
      else send();
    });
  return { call, close: () => session.close() };
};

const cases = httpCases(open, { trailers: true });
await run({ http2: cases, h2c: cases });
