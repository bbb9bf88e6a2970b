// npm's `websocket`.
import websocketPackage from 'websocket';
import { MESSAGES, MIB, ca, run } from './shared.mjs';

const { client: WebSocketClient } = websocketPackage;

const opened = (url, protocols) =>
  new Promise((resolve, reject) => {
    const client = new WebSocketClient({ tlsOptions: { ca: ca() }, maxReceivedFrameSize: 2 * MIB, maxReceivedMessageSize: 2 * MIB });
    client.on('connectFailed', reject);
    client.on('httpResponse', async (response) => {
      const parts = [];
      for await (const part of response) parts.push(part);
      reject(new Error(`${response.statusCode} ${response.headers['www-authenticate']} ${Buffer.concat(parts)}`));
    });
    client.on('connect', (socket) => {
      socket.ended = new Promise((end) => socket.on('close', (code, text) => end(`closed ${code} ${text}`)));
      socket.on('error', (error) => console.log(`error ${error.message}`));
      resolve(socket);
    });
    client.connect(url, protocols);
  });

const next = (socket) => new Promise((resolve) => socket.once('message', resolve));
const content = (message) => (message.type === 'utf8' ? Buffer.from(message.utf8Data) : message.binaryData);

const exchange = async (socket, sent) => {
  const answer = next(socket);
  socket.send(sent);
  const message = await answer;
  console.log(message.type, content(message).length, content(message).equals(Buffer.from(sent)) ? 'same' : 'different');
};

const end = async (socket, code = 1000, reason = '') => {
  socket.close(code, reason);
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
    await end(socket);
  },
  fragments: async (url) => {
    const socket = await opened(`${url}/fragments`);
    // A message above fragmentationThreshold goes out in fragments.
    socket.config.fragmentationThreshold = 16384;
    await exchange(socket, 'fragments '.repeat(10_000));
    await end(socket);
  },
  subprotocol: async (url) => {
    const socket = await opened(`${url}/echo`, ['chat.v1', 'chat.v2']);
    console.log('subprotocol', socket.protocol);
    await end(socket);
  },
  ping: async (url) => {
    const socket = await opened(`${url}/ping`);
    const pong = new Promise((resolve) => socket.once('pong', resolve));
    socket.ping('from the client');
    console.log(`pong ${await pong}`);
    const answer = next(socket);
    socket.send('go');
    console.log(`${content(await answer)}`);
    await end(socket);
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
