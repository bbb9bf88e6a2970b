// Eight clients that begin with long polling and upgrade to a WebSocket: node client.mjs URL
import { io } from 'socket.io-client';

const url = process.argv[2] ?? 'http://127.0.0.1:8080';

// Resolves when a client has its node, has upgraded, and has got a response by the WebSocket.
function client() {
  return new Promise((resolve, reject) => {
    // Without cookies, the polls of a session would reach both nodes.
    const socket = io(url, { withCredentials: true, reconnection: false, forceNew: true });
    socket.on('connect_error', reject);
    socket.on('disconnect', reject);
    socket.on('node', (node) => {
      const { engine } = socket.io;
      const upgraded = () => {
        socket.emit('message', 'hello', (response) => {
          socket.off('disconnect');
          socket.close();
          resolve({ node, response });
        });
      };
      if (engine.transport.name === 'websocket') upgraded();
      else engine.once('upgrade', upgraded);
    });
  });
}

// The limit of a program that waits in vain.
setTimeout(() => process.exit(1), 30_000).unref();
const clients = await Promise.all(Array.from({ length: 8 }, client));
const nodes = new Set(clients.map(({ node }) => node));
const stayed = clients.filter(({ node, response }) => response === `${node}: hello`);
console.log(`${clients.length} clients on ${nodes.size} nodes, ${stayed.length} upgraded at their node`);
