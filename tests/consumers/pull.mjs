// Reads a pull subscription: MALOTE_TOKEN=malote_pull_... node pull.mjs http://127.0.0.1:8081 NAME

const api = `${process.argv[2]}/api/v1/subscriptions/${process.argv[3]}`;
const headers = { authorization: `Bearer ${process.env.MALOTE_TOKEN}`, "content-type": "application/json" };

async function request(path, options) {
  const answer = await fetch(api + path, { headers, signal: AbortSignal.timeout(60_000), ...options });
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  return answer;
}

for (;;) {
  const answer = await request("/events?wait=30");
  for (const line of (await answer.text()).split("\n").filter(Boolean)) {
    const event = JSON.parse(line);
    console.log(event.id, event.type, JSON.stringify(event.data));
  }
  const position = answer.headers.get("malote-position");
  // Only now are they delivered: until their position is stored, the same events are given again.
  await request("/cursor", { method: "PUT", body: JSON.stringify({ position }) });
}
