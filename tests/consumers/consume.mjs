// Consumes the queue of a subscription: AMQP_URL=amqp://user:password@host/vhost node consume.mjs subscription.NAME

import { connect } from "amqplib";

const connection = await connect(process.env.AMQP_URL);
const channel = await connection.createChannel();
await channel.prefetch(50);
await channel.consume(process.argv[2], (message) => {
  console.log(message.properties.messageId, message.properties.type, message.content.toString());
  channel.ack(message); // Only now is it delivered.
});
