// Twelve WebSockets that reconnect after 1012, while one backend drains: node client.mjs URL ADMIN ENDPOINT
import WebSocket from 'ws';

const [url, admin, endpoint] = process.argv.slice(2);
// The limit of a program that waits in vain.
setTimeout(() => process.exit(1), 60_000).unref();

const codes = [];
const clients = Array.from({ length: 12 }, () => ({ version: null, socket: null }));
function connect(client) {
  return new Promise((resolve, reject) => {
    client.socket = new WebSocket(url);
    client.socket.on('error', reject);
    client.socket.once('message', (version) => {
      client.version = version.toString();
      resolve();
    });
    client.socket.on('close', (code) => {
      codes.push(code);
      client.next = code === 1012 ? connect(client) : undefined;
    });
  });
}
await Promise.all(clients.map(connect));
const there = () => clients.filter(({ version }) => version === 'old').length;
const before = there();

const drain = `${admin}/api/v1/upstreams/chat/endpoints/${endpoint}/drain`;
await (await fetch(drain, { method: 'POST' })).text();
// The end of the drain: no connection is active at the endpoint.
const active = async () => {
  const { upstreams } = await (await fetch(`${admin}/api/v1/status`)).json();
  return upstreams.chat.endpoints.find(({ address }) => address === endpoint).active;
};
while ((await active()) > 0) await new Promise((resolve) => setTimeout(resolve, 50));
await Promise.all(clients.map(({ next }) => next));
console.log(`${before} of ${clients.length} WebSockets drained, codes ${[...new Set(codes)]}; ${there()} at the old version`);
for (const { socket } of clients) {
  socket.removeAllListeners('close');
  socket.close();
}
