// Every frame of the contract over the library `ws`, by two users and more. Arguments: the server as HOST:PORT, then tokens of alice, bob, carol, dave.
// The server pushes groups of up to three members; larger ones are pulled.
import WebSocket from "ws";
import assert from "node:assert/strict";

const [server, ...tokens] = process.argv.slice(2);
const devices = [];
const deadline = setTimeout(() => {
  for (const it of devices) for (const { what } of it.waiting) console.error(`not in time: ${what}; unread: ${JSON.stringify(it.frames.slice(-8))}`);
  process.exit(1);
}, 25_000);
const run = Date.now().toString(36);

class Device {
  constructor(token, device, { subprotocol = false, resume } = {}) {
    devices.push(this);
    this.token = token;
    this.frames = [];
    this.waiting = [];
    this.socket = subprotocol
      ? new WebSocket(`ws://${server}/v1/ws`, ["heddle.v1", `heddle.jwt.${token}`])
      : new WebSocket(`ws://${server}/v1/ws`, { headers: { Authorization: `Bearer ${token}` } });
    this.socket.on("open", () => this.send({ type: "hello", device, ...(resume === undefined ? {} : { resume }) }));
    this.socket.on("message", (text, binary) => {
      assert.equal(binary, false);
      this.frames.push(JSON.parse(text));
      this.look();
    });
    this.closed = new Promise((done) => this.socket.on("close", (code) => done(code)));
    this.socket.on("error", (error) => { console.error(error); process.exit(1); });
  }
  send(frame) { this.socket.send(JSON.stringify(frame)); }
  look() {
    this.waiting = this.waiting.filter(({ match, done }) => {
      const at = this.frames.findIndex(match);
      if (at < 0) return true;
      done(this.frames.splice(at, 1)[0]);
      return false;
    });
  }
  next(type, fields = {}) {
    const match = (f) => f.type === type && Object.entries(fields).every(([k, v]) => f[k] === v);
    return new Promise((done) => { this.waiting.push({ match, done, what: `${this.user} waits for ${type} ${JSON.stringify(fields)}` }); this.look(); });
  }
  async rest(method, path, body) {
    const answer = await fetch(`http://${server}${path}`, {
      method,
      headers: { Authorization: `Bearer ${this.token}`, "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${answer.ok ? "" : await answer.text()}`);
    return answer.status === 204 ? null : answer.json();
  }
  // A round trip later there is no such frame.
  async nothing(type, fields = {}) {
    this.send({ type: "ping" });
    await this.next("pong");
    const found = this.frames.filter((f) => f.type === type && Object.entries(fields).every(([k, v]) => f[k] === v));
    assert.deepEqual(found, []);
  }
}

async function enter(token, device, options) {
  const it = new Device(token, device, options);
  it.hello = await it.next("hello_ok");
  it.user = it.hello.user;
  await it.next("caught_up");
  return it;
}

// hello, hello_ok, caught_up.
const alice = await enter(tokens[0], "node-alice", { subprotocol: true });
let bob = await enter(tokens[1], "node-bob");
const carol = await enter(tokens[2], "node-carol");
assert.equal(alice.socket.protocol, "heddle.v1");
assert.equal(alice.hello.device, "node-alice");
assert.ok(Number.isSafeInteger(alice.hello.offset) && alice.hello.heartbeat_ms > 0 && alice.hello.session);

// typing_start, typing_stop, typing_indicator.
alice.send({ type: "typing_start", to: bob.user });
assert.equal((await bob.next("typing_indicator", { typing: true })).from, alice.user);
alice.send({ type: "typing_stop", to: bob.user });
assert.equal((await bob.next("typing_indicator", { typing: false })).from, alice.user);

// chat_message, accepted, new_message on both sides, ack, receipt, read_receipt.
const first = { type: "chat_message", client_id: `first-${run}`, to: bob.user, text: "héllo 🧵", data: { n: [1, null] }, tags: { mood: "fine" } };
alice.send(first);
const accepted = await alice.next("accepted", { client_id: first.client_id });
const got = await bob.next("new_message", { message_id: accepted.message_id });
assert.deepEqual([got.from, got.text, got.data, got.tags], [alice.user, "héllo 🧵", { n: [1, null] }, { mood: "fine" }]);
assert.deepEqual([got.order, got.lamport, got.sent_at], [accepted.order, accepted.lamport, accepted.sent_at]);
assert.equal((await alice.next("new_message", { client_id: first.client_id })).order, accepted.order);
bob.send({ type: "ack", offset: got.offset });
const delivered = await alice.next("receipt", { status: "delivered", message_id: accepted.message_id });
assert.deepEqual([delivered.by, delivered.conversation], [bob.user, `user:${bob.user}`]);
bob.send({ type: "read_receipt", message_id: got.message_id });
await alice.next("receipt", { status: "read", message_id: accepted.message_id });

// The same again, another body under its client_id, too much of it: resend, rejected.
alice.send({ ...first, resend: true });
assert.equal((await alice.next("accepted", { client_id: first.client_id })).order, accepted.order);
alice.send({ ...first, text: "another" });
assert.equal((await alice.next("rejected", { client_id: first.client_id })).code, "conflict");
alice.send({ type: "chat_message", client_id: `large-${run}`, to: bob.user, text: "x".repeat(65 * 1024) });
const large = await alice.next("rejected", { client_id: `large-${run}` });
assert.deepEqual([large.code, large.retryable], ["too_large", false]);

// presence_subscribe, presence_set, presence_update, presence_unsubscribe, presence_get.
await bob.rest("PUT", `/v1/contacts/${alice.user}`);
alice.send({ type: "presence_subscribe", users: [bob.user] });
await alice.next("presence_update", { user: bob.user, status: "online" });
bob.send({ type: "presence_set", status: "away" });
await alice.next("presence_update", { user: bob.user, status: "away" });
alice.send({ type: "presence_unsubscribe", users: [bob.user] });
await alice.nothing("presence_update", { status: "offline" });
bob.send({ type: "presence_set", status: "offline" });
await bob.nothing("error");
await alice.nothing("presence_update", { status: "offline" });
alice.send({ type: "presence_get", users: [bob.user] });
await alice.next("presence_update", { user: bob.user, status: "offline" });

// A group that is pushed: membership, and messages of it.
const { group } = await alice.rest("POST", "/v1/groups", { client_id: `g-${run}`, name: "three", members: [bob.user, carol.user] });
for (const it of [alice, bob, carol]) assert.equal((await it.next("membership", { group, change: "joined", user: it.user })).by, alice.user);
alice.send({ type: "typing_start", group });
assert.equal((await carol.next("typing_indicator", { group })).from, alice.user);
bob.send({ type: "chat_message", client_id: `hi-${run}`, group, text: "hi all", mentions: [carol.user] });
const order = (await bob.next("accepted", { client_id: `hi-${run}` })).order;
for (const it of [alice, bob, carol]) assert.equal((await it.next("new_message", { group })).order, order);
await alice.rest("PATCH", `/v1/groups/${group}`, { name: "renamed", roles: { [bob.user]: "admin" } });
await carol.next("membership", { group, change: "renamed" });
await carol.next("membership", { group, change: "role", user: bob.user });
await alice.rest("DELETE", `/v1/groups/${group}/members/${carol.user}`);
await carol.next("membership", { group, change: "removed", user: carol.user });
carol.send({ type: "chat_message", client_id: `out-${run}`, group, text: "still here?" });
assert.equal((await carol.next("rejected", { client_id: `out-${run}` })).code, "not_member");
await bob.rest("DELETE", `/v1/groups/${group}/members/${bob.user}`);
await alice.next("membership", { group, change: "left", user: bob.user });

// A group that is pulled: group_notice, and its history.
const dave = await enter(tokens[3], "node-dave");
const many = (await alice.rest("POST", "/v1/groups", { client_id: `m-${run}`, name: "four", members: [bob.user, carol.user, dave.user] })).group;
await dave.next("membership", { group: many, change: "joined", user: dave.user });
alice.send({ type: "chat_message", client_id: `many-${run}`, group: many, text: "for those who look" });
const pulled = await alice.next("accepted", { client_id: `many-${run}` });
assert.equal((await dave.next("group_notice", { group: many })).head, pulled.order);
await dave.nothing("new_message", { group: many });
const page = await dave.rest("GET", `/v1/conversations/group:${many}/messages`);
assert.deepEqual(page.messages.map((m) => m.text), ["for those who look"]);

// Away and back with a position: missed, then caught_up; a position that nobody gave: gap.
const resume = Math.max(...[got.offset, ...bob.frames.map((f) => f.offset ?? 0)]);
bob.socket.close();
await bob.closed;
for (const text of ["one", "two"]) {
  alice.send({ type: "chat_message", client_id: `${text}-${run}`, to: bob.user, text });
  await alice.next("accepted", { client_id: `${text}-${run}` });
}
bob = new Device(tokens[1], "node-bob", { resume });
bob.hello = await bob.next("hello_ok");
assert.deepEqual([bob.hello.resumed, bob.hello.offset, bob.hello.gap], [true, resume, undefined]);
const two = await bob.next("new_message", { text: "two" });
const one = await bob.next("new_message", { text: "one" });
assert.ok(one.missed && two.missed && one.offset < two.offset);
assert.ok((await bob.next("caught_up")).offset >= two.offset);
const lost = await enter(tokens[1], "node-lost", { resume: Number.MAX_SAFE_INTEGER });
assert.deepEqual([lost.hello.resumed, lost.hello.gap], [false, { reason: "above_head" }]);

// ping, pong, error, and closes.
alice.send({ type: "ping" });
await alice.next("pong");
alice.send({ type: "no_such_type", ref: "r1" });
const unknown = await alice.next("error", { ref: "r1" });
assert.deepEqual([unknown.code, unknown.command, unknown.retryable], ["unknown_type", "no_such_type", false]);
alice.send({ type: "ack", offset: Number.MAX_SAFE_INTEGER, ref: "r2" });
assert.equal((await alice.next("error", { ref: "r2" })).command, "ack");
const replacing = await enter(tokens[1], "node-lost");
assert.equal(await lost.closed, 4509);
replacing.socket.send("not json");
assert.equal(await replacing.closed, 4501);
for (const it of [alice, bob, carol, dave]) { it.socket.close(); await it.closed; }
clearTimeout(deadline);
console.log("node: all frames as the contract says");
