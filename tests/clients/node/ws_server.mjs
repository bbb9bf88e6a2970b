// npm's `ws`, its server.
import http from 'node:http';
import https from 'node:https';
import { WebSocketServer } from 'ws';
import { identity } from './shared.mjs';

const options = {
  noServer: true,
  maxPayload: 0,
  perMessageDeflate: { threshold: 0 },
  handleProtocols: (offered) => (offered.has('chat.v2') ? 'chat.v2' : false),
};
const sockets = new WebSocketServer(options);

const REFUSAL =
  'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="test"\r\nContent-Type: text/plain\r\nContent-Length: 14\r\nConnection: close\r\n\r\nsign in first\n';

const actions = {
  close: (socket) => socket.close(4001, 'closed by the server'),
  fin: (socket) => socket._socket.destroy(),
  // Over TLS the socket below is reset.
  reset: (socket) => (socket._socket._parent ?? socket._socket).resetAndDestroy(),
  fragments: (socket, data, binary) => {
    socket.send(data.subarray(0, 5), { binary, fin: false });
    socket.send(data.subarray(5), { binary });
  },
  ping: (socket) => {
    socket.once('pong', (data) => socket.send(`pong ${data}`));
    socket.ping('from the server');
  },
};

const upgrade = (request, stream, head) => {
  const [, token, action] = request.url.split('/');
  if (action === 'refuse') return stream.end(REFUSAL);
  return sockets.handleUpgrade(request, stream, head, (socket) => {
    console.log(`${token} open`);
    socket.on('error', () => {});
    socket.on('message', (data, binary) => (actions[action] ?? (() => socket.send(data, { binary })))(socket, data, binary));
    socket.on('close', (code, reason) => console.log(`${token} end ${code} ${reason}`));
  });
};

const listen = (server) => {
  server.on('upgrade', upgrade);
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
};

const plain = await listen(http.createServer());
const tls = await listen(https.createServer(identity()));
console.log(`listening plain=${plain} tls=${tls}`);
