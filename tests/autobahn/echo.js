// The backend of the suite: npm's `ws`, which answers every message with itself and refuses none for
// its size or its fragments, so that every verdict is about the protocol.
const { WebSocketServer } = require('ws');

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  maxPayload: 0,
  maxFragments: 0,
  perMessageDeflate: { threshold: 0 },
});
server.on('connection', (socket) => {
  // The suite breaks the protocol on purpose; `ws` has closed the connection by now.
  socket.on('error', () => {});
  socket.on('message', (data, binary) => socket.send(data, { binary }));
});
server.on('listening', () => console.log(`listening ${server.address().port}`));
