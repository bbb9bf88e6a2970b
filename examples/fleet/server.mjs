// A backend that answers with its name: node server.mjs NAME PORT. It needs no packages.
import { createServer } from 'node:http';

createServer((request, response) => {
  response.end(`${process.argv[2]}\n`);
}).listen(Number(process.argv[3]), process.env.HOST ?? '127.0.0.1');
