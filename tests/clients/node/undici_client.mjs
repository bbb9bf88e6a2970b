// undici: HTTP/1.1, HTTP/2, and WebSockets.
import { Agent, WebSocket, request } from 'undici';
import { MESSAGES, ca, describe, httpCases, pairs, pieces, run } from './shared.mjs';

const client = (allowH2) => (url) => {
  const dispatcher = new Agent({ allowH2, connect: { ca: ca() }, connections: 1, pipelining: 1 });
  const call = async ({ method, path, body, chunked, fields }) => {
    const data = chunked ? pieces(body) : body;
    const response = await request(url + path, { dispatcher, method, body: data, headers: fields, responseHeaders: 'raw' });
    const received = Buffer.from(await response.body.arrayBuffer());
    const names = Array.isArray(response.headers)
      ? pairs(response.headers.map(String))
      : Object.entries(response.headers).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
    return { status: response.statusCode, fields: names, body: received, trailers: Object.entries(response.trailers ?? {}) };
  };
  return { call, close: () => dispatcher.destroy() };
};

const opened = (url, options = {}) =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket(url, { dispatcher: new Agent({ connect: { ca: ca() } }), ...options });
    socket.binaryType = 'arraybuffer';
    socket.ended = new Promise((end) => socket.addEventListener('close', ({ code, reason, wasClean }) => end(`closed ${code} ${reason} clean ${wasClean}`)));
    socket.addEventListener('error', ({ error, message }) => console.log(`error ${error ? describe(error) : message}`));
    socket.addEventListener('open', () => resolve(socket));
    socket.ended.then((text) => reject(new Error(text)));
  });

const next = (socket) => new Promise((resolve) => socket.addEventListener('message', ({ data }) => resolve(data), { once: true }));

const exchange = async (socket, data) => {
  const answer = next(socket);
  socket.send(data);
  const received = await answer;
  const same = typeof data === 'string' ? received === data : Buffer.from(received).equals(data);
  console.log(typeof received, data.length, same ? 'same' : 'different');
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
    await end(socket);
  },
  fragments: async (url) => {
    const socket = await opened(`${url}/fragments`);
    await exchange(socket, 'one, two, three');
    await end(socket);
  },
  subprotocol: async (url) => {
    const socket = await opened(`${url}/echo`, { protocols: ['chat.v1', 'chat.v2'] });
    console.log('subprotocol', socket.protocol, 'extensions', socket.extensions);
    await end(socket);
  },
  ping: async (url) => {
    const socket = await opened(`${url}/ping`);
    const answer = next(socket);
    socket.send('go');
    console.log(await answer);
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

// Node's fetch refuses `Expect`, and so does undici.
const http2 = httpCases(client(true), { trailers: true, expect: false });
await run({ http1: httpCases(client(false), { trailers: true, expect: false }), http2, websocket });
