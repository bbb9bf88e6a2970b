// socket.io-client.
import { io } from 'socket.io-client';
import { TEXT, ca, describe, digest, pattern, run } from './shared.mjs';

const opened = (url, transports) =>
  new Promise((resolve, reject) => {
    const socket = io(url, { transports, ca: ca().toString(), reconnection: false, forceNew: true });
    socket.on('connect_error', (error) => reject(new Error(describe(error))));
    socket.on('connect', () => resolve(socket));
  });

const converse = async (socket) => {
  const numbers = new Promise((resolve) => {
    const seen = [];
    socket.on('number', (number) => seen.push(number) === 5 && resolve(seen));
  });
  socket.emit('count', 5);
  console.log('numbers', await numbers);
  const [text, bytes] = await socket.timeout(10_000).emitWithAck('echo', 'héllo ☃').then((text) => [text]);
  console.log(text, bytes ?? '');
  console.log(digest(Buffer.from(await socket.timeout(10_000).emitWithAck('echo', TEXT))));
  console.log(digest(await socket.timeout(10_000).emitWithAck('echo', pattern(200_000))));
};

const over = (transports) => async (url) => {
  const socket = await opened(url, transports);
  await converse(socket);
  console.log(socket.io.engine.transport.name);
  socket.disconnect();
};

await run({
  socketio: {
    websocket: over(['websocket']),
    polling: over(['polling']),
    upgrade: async (url) => {
      const socket = await opened(url, ['polling', 'websocket']);
      if (socket.io.engine.transport.name !== 'websocket') await new Promise((resolve) => socket.io.engine.once('upgrade', resolve));
      await converse(socket);
      console.log(socket.io.engine.transport.name);
      socket.disconnect();
    },
    disconnect: async (url) => {
      const socket = await opened(url, ['websocket']);
      const reason = new Promise((resolve) => socket.on('disconnect', resolve));
      socket.emit('end');
      console.log(await reason);
    },
  },
});
