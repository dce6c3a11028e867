// Receives a push subscription: WEBHOOK_SECRET=whsec_... node push.mjs PORT

import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.WEBHOOK_SECRET);
const handled = new Set(); // In a service: a unique key, written in the transaction of the effect.

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString();
  try {
    webhook.verify(body, request.headers, { jsonParse: false });
  } catch {
    return response.writeHead(401).end();
  }
  const id = request.headers["webhook-id"];
  if (!handled.has(id)) { // An event can arrive more than once.
    console.log(id, request.headers["ce-type"], body);
    handled.add(id);
  }
  response.writeHead(204).end(); // Only now is it delivered.
}).listen(Number(process.argv[2]), "127.0.0.1");
