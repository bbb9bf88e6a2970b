// A GraphQL server with subscriptions by graphql-transport-ws: node server.mjs PORT
import { createServer } from 'node:http';
import { GraphQLInt, GraphQLObjectType, GraphQLSchema, GraphQLString } from 'graphql';
import { useServer } from 'graphql-ws/use/ws';
import { WebSocketServer } from 'ws';

const port = process.argv[2];
const schema = new GraphQLSchema({
  query: new GraphQLObjectType({ name: 'Query', fields: { hello: { type: GraphQLString, resolve: () => 'world' } } }),
  subscription: new GraphQLObjectType({
    name: 'Subscription',
    fields: {
      countdown: {
        type: GraphQLInt,
        args: { from: { type: GraphQLInt } },
        async *subscribe(_, { from }) {
          for (let left = from; left >= 0; left -= 1) yield { countdown: left };
        },
      },
    },
  }),
});
const http = createServer((_, response) => response.writeHead(204).end());
useServer({ schema }, new WebSocketServer({ server: http, path: '/graphql' }));
http.listen(Number(port), process.env.HOST ?? '127.0.0.1');
