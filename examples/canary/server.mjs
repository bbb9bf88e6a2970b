// A version of the application: node server.mjs VERSION PORT. It needs no packages.
import { createServer } from 'node:http';

const [version, port] = process.argv.slice(2);
createServer((_, response) => response.end(`${version}\n`)).listen(Number(port), process.env.HOST ?? '127.0.0.1');
