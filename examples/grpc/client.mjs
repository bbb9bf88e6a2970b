// A call and a stream: node client.mjs ADDRESS
import { grpc, Greeter } from './service.mjs';

const client = new Greeter(process.argv[2] ?? '127.0.0.1:8080', grpc.credentials.createInsecure());
// The limit of a program that waits in vain.
const deadline = Date.now() + 30_000;
console.log(await new Promise((resolve, reject) => {
  client.greet({ name: 'ada' }, { deadline }, (error, response) => (error ? reject(error) : resolve(response.text)));
}));
for await (const { text } of client.count({ name: 'ada' }, { deadline })) console.log(text);
client.close();
