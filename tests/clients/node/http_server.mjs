// Node's `http` and `http2` servers: HTTP/1.1, and HTTP/2 with and without TLS.
import http from 'node:http';
import http2 from 'node:http2';
import { crc32 } from 'node:zlib';
import { MIB, identity, pattern, pieces } from './shared.mjs';

const big = pattern(MIB);

const respond = (response, status, fields, body) => {
  response.writeHead(status, { 'Content-Type': 'text/plain', 'Content-Length': Buffer.byteLength(body), ...fields });
  response.end(body);
};

const read = async (request) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts);
};

const paths = {
  '/get': (request, response) => respond(response, 200, { ETag: '"abc"', 'X-Case-Of-Names': 'kept', 'Set-Cookie': ['a=1', 'b=2'] }, 'hello\n'),
  '/echo': async (request, response) => {
    const body = await read(request);
    const framing = request.headers['transfer-encoding'] ?? request.headers['content-length'] ?? 'none';
    const checksum = crc32(body).toString(16).padStart(8, '0');
    respond(response, 200, {}, `${request.method} ${body.length} ${checksum} framing ${framing}\n`);
  },
  '/big': (request, response) => respond(response, 200, {}, big),
  '/chunked': (request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/plain' });
    for (const piece of pieces(big.subarray(0, 200_000))) response.write(piece);
    response.end();
  },
  '/trailers': (request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/plain', Trailer: 'X-Checksum' });
    response.write('with trailers\n');
    response.addTrailers({ 'X-Checksum': 'cafe' });
    response.end();
  },
  '/early': (request, response) => respond(response, 413, {}, 'too large\n'),
  '/limited': (request, response) => respond(response, 413, {}, 'too large\n'),
};

const handle = (request, response) => {
  request.on('error', () => {});
  response.on('error', () => {});
  const path = paths[request.url];
  return path ? path(request, response) : respond(response, 404, {}, 'no such path\n');
};

const listen = (server) => {
  server.on('request', handle);
  // Clients that end in the middle of an upload are part of the cases.
  server.on('sessionError', () => {});
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
};

const plain = await listen(http.createServer());
const tls = await listen(http2.createSecureServer({ ...identity(), allowHTTP1: true }));
const h2c = await listen(http2.createServer());
console.log(`listening plain=${plain} tls=${tls} h2c=${h2c}`);
