// A backend: node server.mjs PORT. It needs no packages.
import { createServer } from 'node:http';

createServer((_, response) => response.end('ok\n')).listen(Number(process.argv[2]), process.env.HOST ?? '127.0.0.1');
