// npm's `ws`.
import { WebSocket } from 'ws';
import { MESSAGES, ca, describe, run } from './shared.mjs';

const opened = (url, protocols = []) =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket(url, protocols, { ca: ca(), maxPayload: 0 });
    socket.ended = new Promise((end) => socket.on('close', (code, reason) => end(`closed ${code} ${reason}`)));
    socket.on('error', (error) => console.log(`error ${describe(error)}`));
    socket.on('open', () => resolve(socket));
    socket.on('unexpected-response', async (request, response) => {
      const parts = [];
      for await (const part of response) parts.push(part);
      reject(new Error(`${response.statusCode} ${response.statusMessage} ${response.headers['www-authenticate']} ${Buffer.concat(parts)}`));
    });
  });

const next = (socket, event = 'message') => new Promise((resolve) => socket.once(event, (data, binary) => resolve({ data, binary })));

const exchange = async (socket, sent) => {
  const answer = next(socket);
  socket.send(sent);
  const { data, binary } = await answer;
  console.log(binary ? 'binary' : 'text', data.length, Buffer.from(sent).equals(data) ? 'same' : 'different');
};

const end = async (socket, ...reason) => {
  socket.close(...reason);
  console.log(await socket.ended);
};

const ends = (path) => async (url) => {
  const socket = await opened(url + path);
  socket.send('end');
  console.log(await socket.ended);
};

const websocket = {
  echo: async (url) => {
    const socket = await opened(`${url}/echo`);
    for (const data of MESSAGES()) await exchange(socket, data);
    await end(socket, 1000);
  },
  fragments: async (url) => {
    const socket = await opened(`${url}/fragments`);
    const answer = next(socket);
    socket.send('one, ', { fin: false });
    socket.send('two, ', { fin: false });
    socket.send('three');
    console.log(`${(await answer).data}`);
    await end(socket, 1000);
  },
  subprotocol: async (url) => {
    const socket = await opened(`${url}/echo`, ['chat.v1', 'chat.v2']);
    console.log('subprotocol', socket.protocol, 'extensions', socket.extensions);
    await end(socket, 1000);
  },
  ping: async (url) => {
    const socket = await opened(`${url}/ping`);
    const pong = next(socket, 'pong');
    socket.ping('from the client');
    console.log(`pong ${(await pong).data}`);
    const answer = next(socket);
    socket.send('go');
    console.log(`${(await answer).data}`);
    await end(socket, 1000);
  },
  client_close: async (url) => {
    const socket = await opened(`${url}/echo`);
    await exchange(socket, 'hello');
    await end(socket, 3001, 'bye from the client');
  },
  server_close: ends('/close'),
  lost_fin: ends('/fin'),
  lost_reset: ends('/reset'),
  client_lost: async (url) => {
    const socket = await opened(`${url}/echo`);
    await exchange(socket, 'hello');
    process.exit(0);
  },
  refused: (url) => opened(`${url}/refuse`),
};

await run({ websocket });
