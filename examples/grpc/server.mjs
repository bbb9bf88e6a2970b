// A server of the service, without TLS: node server.mjs PORT
import { grpc, Greeter } from './service.mjs';

const server = new grpc.Server();
server.addService(Greeter.service, {
  greet: ({ request }, done) => done(null, { text: `hello ${request.name}` }),
  count: (call) => {
    for (let count = 1; count <= 3; count += 1) call.write({ text: `${call.request.name} ${count}` });
    call.end();
  },
});
const address = `${process.env.HOST ?? '127.0.0.1'}:${process.argv[2]}`;
server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
});
