// Eight clients that negotiate and invoke a method: node client.mjs URL
import { HubConnectionBuilder, LogLevel } from '@microsoft/signalr';

const url = process.argv[2] ?? 'http://127.0.0.1:8080/hub';
// The limit of a program that waits in vain.
setTimeout(() => process.exit(1), 30_000).unref();

async function client() {
  const connection = new HubConnectionBuilder().withUrl(url).configureLogging(LogLevel.None).build();
  await connection.start();
  const response = await connection.invoke('echo', 'hello');
  await connection.stop();
  return response;
}
const responses = await Promise.all(Array.from({ length: 8 }, client));
console.log(`${responses.length} clients, ${new Set(responses).size} nodes`);
