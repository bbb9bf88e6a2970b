// A node of the cluster: node server.mjs NAME PORT
import { createServer } from 'node:http';
import { Server } from 'socket.io';

const [name, port] = process.argv.slice(2);
const http = createServer();
const io = new Server(http);

io.on('connection', (socket) => {
  socket.emit('node', name);
  socket.on('message', (text, reply) => reply(`${name}: ${text}`));
});
http.listen(Number(port), process.env.HOST ?? '127.0.0.1');
