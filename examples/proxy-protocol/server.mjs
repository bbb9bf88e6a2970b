// A backend that shows the forwarded address and scheme of the client: node server.mjs PORT. It needs no packages.
import { createServer } from 'node:http';

createServer((request, response) => {
  response.end(`client ${request.headers['x-forwarded-for']}, scheme ${request.headers['x-forwarded-proto']}\n`);
}).listen(Number(process.argv[2]), process.env.HOST ?? '127.0.0.1');
