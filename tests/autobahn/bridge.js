// Bridge from HTTP/1.1 to HTTP/2 for the suite, which supports only HTTP/1.1. It forwards each WebSocket byte for byte over
// HTTP/2 (RFC 8441), all on one connection to the given port, so that the suite tests the gateway's HTTP/2.
const { createHash } = require('crypto');
const http = require('http');
const http2 = require('http2');

const authority = `127.0.0.1:${process.argv[2]}`;
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const OFFERS = ['sec-websocket-version', 'sec-websocket-protocol', 'sec-websocket-extensions'];

let connections = 0;
let current;
// The gateway closes an idle connection; the next WebSocket opens a new one.
const connection = () => {
  if (!current || current.closed || current.destroyed) {
    connections += 1;
    current = http2.connect(`http://${authority}`);
    current.on('error', (error) => console.log(`connection: ${error.message}`));
  }
  return current;
};
const ready = (session) =>
  new Promise((resolve) => (session.remoteSettings.enableConnectProtocol ? resolve() : session.once('remoteSettings', resolve)));

const server = http.createServer();
server.on('upgrade', async (request, socket, head) => {
  const session = connection();
  await ready(session);
  const fields = { ':method': 'CONNECT', ':protocol': 'websocket', ':scheme': 'http', ':authority': authority, ':path': request.url };
  for (const name of OFFERS) if (request.headers[name]) fields[name] = request.headers[name];
  const stream = session.request(fields, { endStream: false });
  socket.on('error', () => stream.close(http2.constants.NGHTTP2_CANCEL));
  stream.on('error', () => socket.destroy());
  stream.on('response', (answer) => {
    if (answer[':status'] !== 200) return socket.end(`HTTP/1.1 ${answer[':status']} Refused\r\nConnection: close\r\n\r\n`);
    const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + GUID).digest('base64');
    const agreed = OFFERS.filter((name) => answer[name]).map((name) => `${name}: ${answer[name]}\r\n`);
    socket.setNoDelay(true);
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n${agreed.join('')}\r\n`,
    );
    if (head.length > 0) stream.write(head);
    socket.pipe(stream).pipe(socket);
  });
});
server.listen(0, '127.0.0.1', () => console.log(`listening ${server.address().port}`));
process.on('SIGTERM', () => process.exit(console.log(`${connections} connections`)));
