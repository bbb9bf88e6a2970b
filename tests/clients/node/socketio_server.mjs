// Socket.IO, its server.
import http from 'node:http';
import https from 'node:https';
import { Server } from 'socket.io';
import { identity } from './shared.mjs';

const listen = (server) => {
  const sockets = new Server(server, { maxHttpBufferSize: 1e8 });
  sockets.on('connection', (socket) => {
    socket.on('echo', (...parts) => parts.pop()(...parts));
    socket.on('count', (to) => Array.from({ length: to }, (_, i) => socket.emit('number', i)));
    socket.on('end', () => socket.disconnect(true));
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
};

const plain = await listen(http.createServer());
const tls = await listen(https.createServer(identity()));
console.log(`listening plain=${plain} tls=${tls}`);
