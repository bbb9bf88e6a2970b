// @grpc/grpc-js. Messages are bytes, so that no code is generated.
import grpc from '@grpc/grpc-js';
import { MIB, ca, digest, pattern, run } from './shared.mjs';

const bytes = (data) => data;
const PATH = '/test.Calls/';

const show = (kind, metadata) => {
  for (const [name, value] of Object.entries(metadata.getMap()).sort()) {
    if (name !== 'date') console.log(kind, name, Buffer.isBuffer(value) ? value.toString('hex') : value);
  }
};

// Runs a call until its status, and prints what it received.
const finish = (call, received) =>
  new Promise((resolve) => {
    call.on('metadata', (metadata) => show('initial', metadata));
    call.on('error', () => {});
    if (received) call.on('data', (data) => received.push(`${data}`));
    call.on('status', ({ code, details, metadata }) => {
      if (received) console.log(received.join(', '));
      // The details of a deadline contain durations, and which side ends a call after it is chance.
      const late = code === grpc.status.DEADLINE_EXCEEDED;
      console.log(grpc.status[code], late ? '' : details);
      if (!late) show('trailing', metadata);
      resolve();
    });
  });

const answered = (error, data) => data && console.log(digest(data));

const calling = (start) => async (url) => {
  const [scheme, address] = url.split('://');
  const credentials = scheme === 'https' ? grpc.credentials.createSsl(ca()) : grpc.credentials.createInsecure();
  const client = new grpc.Client(address, credentials, { 'grpc.max_receive_message_length': -1 });
  await start(client);
  client.close();
};

const unary = (method, data, metadata = new grpc.Metadata(), options = {}) =>
  calling((client) => finish(client.makeUnaryRequest(PATH + method, bytes, bytes, data, metadata, options, answered)));

const metadata = new grpc.Metadata();
metadata.set('x-text', 'value');
metadata.set('x-bytes-bin', Buffer.from([0, 255]));

await run({
  grpc: {
    unary: unary('Echo', Buffer.from('hello')),
    metadata: unary('Metadata', Buffer.alloc(0), metadata),
    large: unary('Echo', pattern(MIB)),
    server_stream: calling((client) => finish(client.makeServerStreamRequest(`${PATH}Count`, bytes, bytes, Buffer.from('5')), [])),
    client_stream: calling((client) => {
      const call = client.makeClientStreamRequest(`${PATH}Sum`, bytes, bytes, (error, data) => console.log(`${data}`));
      for (const part of ['1', '22', '333']) call.write(Buffer.from(part));
      call.end();
      return finish(call);
    }),
    bidi: calling((client) => {
      const call = client.makeBidiStreamRequest(`${PATH}Chat`, bytes, bytes);
      for (let i = 0; i < 5; i += 1) call.write(Buffer.from(`message ${i}`));
      call.end();
      return finish(call, []);
    }),
    error: unary('Fail', Buffer.alloc(0)),
    unimplemented: unary('Missing', Buffer.alloc(0)),
    deadline: calling((client) =>
      finish(client.makeUnaryRequest(`${PATH}Wait`, bytes, bytes, Buffer.alloc(0), new grpc.Metadata(), { deadline: Date.now() + 300 }, answered)),
    ),
  },
});
