// Backend of the suite: npm's `ws`, which echoes every message and rejects none for its size or its fragments, so that
// every result concerns the protocol.
const { WebSocketServer } = require('ws');

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  maxPayload: 0,
  maxFragments: 0,
  perMessageDeflate: { threshold: 0 },
});
server.on('connection', (socket) => {
  // The suite violates the protocol on purpose; `ws` has closed the connection already.
  socket.on('error', () => {});
  socket.on('message', (data, binary) => socket.send(data, { binary }));
});
server.on('listening', () => console.log(`listening ${server.address().port}`));
