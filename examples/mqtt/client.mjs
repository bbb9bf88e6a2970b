// A subscriber and a publisher over two WebSockets: node client.mjs URL
import mqtt from 'mqtt';

const url = process.argv[2] ?? 'ws://127.0.0.1:8080/mqtt';
const connect = () => mqtt.connectAsync(url, { reconnectPeriod: 0, keepalive: 30 });
// The limit of a program that waits in vain.
setTimeout(() => process.exit(1), 30_000).unref();
const [subscriber, publisher] = await Promise.all([connect(), connect()]);
const received = new Promise((resolve) => subscriber.once('message', (topic, text) => resolve(`${topic}: ${text}`)));
await subscriber.subscribeAsync('lab/temperature', { qos: 1 });
await publisher.publishAsync('lab/temperature', '21.5', { qos: 1 });
console.log(await received);
await Promise.all([subscriber.endAsync(), publisher.endAsync()]);
