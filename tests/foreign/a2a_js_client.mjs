// A client of @a2a-js/sdk driven over stdin: node a2a_js_client.mjs <environment> <base url> <binding>.
//
// Reads lines {"id", "method", "params"} and {"id", "abort": true}; writes lines {"id", "result"}, {"id", "event"},
// {"id", "end": true} and {"id", "error": {"name", "message", "code"}}. Params and results are JSON of the SDK's own version.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { join } from 'node:path';

const [environment, baseUrl, binding] = process.argv.slice(2);
const require = createRequire(join(environment, 'package.json'));
const types = require('@a2a-js/sdk');
const sdk = require('@a2a-js/sdk/client');
const isOne = 'SendMessageRequest' in types; // 1.x has message types with fromJSON and toJSON, 0.3 speaks plain JSON

const REQUESTS = {
  sendMessage: 'SendMessageRequest',
  sendMessageStream: 'SendMessageRequest',
  getTask: 'GetTaskRequest',
  listTasks: 'ListTasksRequest',
  cancelTask: 'CancelTaskRequest',
  resubscribeTask: 'SubscribeToTaskRequest',
  createTaskPushNotificationConfig: 'TaskPushNotificationConfig',
  getTaskPushNotificationConfig: 'GetTaskPushNotificationConfigRequest',
  listTaskPushNotificationConfig: 'ListTaskPushNotificationConfigsRequest',
  deleteTaskPushNotificationConfig: 'DeleteTaskPushNotificationConfigRequest',
};
const RESULTS = {
  getTask: 'Task',
  listTasks: 'ListTasksResponse',
  cancelTask: 'Task',
  createTaskPushNotificationConfig: 'TaskPushNotificationConfig',
  getTaskPushNotificationConfig: 'TaskPushNotificationConfig',
  listTaskPushNotificationConfig: 'ListTaskPushNotificationConfigsResponse',
  getAgentCard: 'AgentCard',
};
const STREAMING = new Set(['sendMessageStream', 'resubscribeTask']);

const headers = process.env.API_KEY ? { authorization: `Bearer ${process.env.API_KEY}` } : {};
const fetchImpl = (url, init = {}) => {
  const merged = new Headers(init.headers);
  for (const [name, value] of Object.entries(headers)) merged.set(name, value);
  return fetch(url, { ...init, headers: merged });
};

function transport() {
  if (binding === 'GRPC') return new (require('@a2a-js/sdk/client/grpc').GrpcTransportFactory)();
  const Factory = binding === 'JSONRPC' ? sdk.JsonRpcTransportFactory : sdk.RestTransportFactory;
  return new Factory({ fetchImpl });
}

function read(method, params) {
  return isOne && method in REQUESTS ? types[REQUESTS[method]].fromJSON(params) : params;
}

function plain(method, value) {
  if (!isOne) return value ?? null;
  if (method === 'sendMessage') {
    return 'status' in value ? { task: types.Task.toJSON(value) } : { message: types.Message.toJSON(value) };
  }
  if (STREAMING.has(method)) return types.StreamResponse.toJSON(value);
  return method in RESULTS ? types[RESULTS[method]].toJSON(value) : null;
}

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');
const running = new Map();

async function perform(client, { id, method, params }) {
  const abort = new AbortController();
  running.set(id, abort);
  const options = { signal: abort.signal, serviceParameters: headers };
  try {
    if (STREAMING.has(method)) {
      for await (const event of client[method](read(method, params), options)) say({ id, event: plain(method, event) });
      say({ id, end: true });
    } else if (method === 'getAgentCard') {
      say({ id, result: plain(method, await client.getAgentCard(options)) });
    } else {
      say({ id, result: plain(method, await client[method](read(method, params), options)) });
    }
  } catch (error) {
    say({ id, error: { name: error.name, message: error.message, code: error.code ?? null } });
  } finally {
    running.delete(id);
  }
}

const factory = new sdk.ClientFactory({
  transports: [transport()],
  cardResolver: new sdk.DefaultAgentCardResolver({ fetchImpl }),
});
try {
  const client = await factory.createFromUrl(baseUrl);
  say({ id: 0, result: 'ready' });
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    if (command.abort) running.get(command.id)?.abort();
    else perform(client, command);
  }
} catch (error) {
  say({ id: 0, error: { name: error.name, message: error.message, code: error.code ?? null } });
}
process.exit(0);
