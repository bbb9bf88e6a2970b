// A backend that shows the client's certificate: node server.mjs PORT. It needs no packages.
import { createServer } from 'node:http';

createServer((request, response) => {
  response.end(`subject ${request.headers['x-client-subject']}\n`);
}).listen(Number(process.argv[2]), process.env.HOST ?? '127.0.0.1');
