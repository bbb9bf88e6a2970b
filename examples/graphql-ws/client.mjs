// A query and a subscription over one WebSocket: node client.mjs URL
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

const client = createClient({ url: process.argv[2] ?? 'ws://127.0.0.1:8080/graphql', webSocketImpl: WebSocket, retryAttempts: 0 });
const results = async (query) => {
  const all = [];
  for await (const { data } of client.iterate({ query })) all.push(Object.values(data)[0]);
  return all.join(' ');
};
console.log(await results('{ hello }'));
console.log(await results('subscription { countdown(from: 3) }'));
await client.dispose();
