// The service of greeter.proto.
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const file = fileURLToPath(new URL('greeter.proto', import.meta.url));
export const { Greeter } = grpc.loadPackageDefinition(loadSync(file)).greeter;
export { grpc };
