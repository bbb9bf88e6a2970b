// A backend with WebSockets, of one version: node server.mjs VERSION PORT
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

const [version, port] = process.argv.slice(2);
const http = createServer((_, response) => response.end(`${version}\n`));
new WebSocketServer({ server: http }).on('connection', (client) => {
  client.send(version);
  client.on('message', (text) => client.send(text.toString()));
});
http.listen(Number(port), process.env.HOST ?? '127.0.0.1');
