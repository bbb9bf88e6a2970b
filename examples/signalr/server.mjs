// A hub with SignalR's JSON protocol: node server.mjs NAME PORT
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

const [name, port] = process.argv.slice(2);
// Ends a message of the protocol.
const END = '\u001e';
const tokens = new Set();

const http = createServer((request, response) => {
  if (!request.url.startsWith('/hub/negotiate')) return response.writeHead(404).end();
  const token = randomUUID();
  tokens.add(token);
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({
    negotiateVersion: 1,
    connectionId: randomUUID(),
    connectionToken: token,
    availableTransports: [{ transport: 'WebSockets', transferFormats: ['Text'] }],
  }));
});
const hub = new WebSocketServer({ noServer: true });
http.on('upgrade', (request, socket, head) => {
  // The token of a negotiation is unknown at another node.
  const token = new URL(request.url, 'http://hub').searchParams.get('id');
  if (!tokens.delete(token)) return socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n');
  hub.handleUpgrade(request, socket, head, (client) => {
    let greeted = false;
    client.on('message', (data) => {
      for (const text of data.toString().split(END).filter(Boolean)) {
        const message = JSON.parse(text);
        if (!greeted) {
          greeted = true;
          client.send(`{}${END}`);
        } else if (message.type === 1) {
          const result = `${name}: ${message.arguments[0]}`;
          client.send(JSON.stringify({ type: 3, invocationId: message.invocationId, result }) + END);
        }
      }
    });
  });
});
http.listen(Number(port), process.env.HOST ?? '127.0.0.1');
