// A reduced conversation of two users over the library `ws`. Arguments: URL, token of alice, token of bob.
import WebSocket from "ws";
import assert from "node:assert/strict";

const [url, aliceToken, bobToken] = process.argv.slice(2);
const deadline = setTimeout(() => { console.error("not in time"); process.exit(1); }, 30_000);

class Device {
  constructor(token, device, protocols) {
    this.frames = [];
    this.waiting = [];
    this.socket = protocols
      ? new WebSocket(url, ["heddle.v1", `heddle.jwt.${token}`])
      : new WebSocket(url, { headers: { Authorization: `Bearer ${token}` } });
    this.socket.on("open", () => this.send({ type: "hello", device }));
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
    return new Promise((done) => { this.waiting.push({ match, done }); this.look(); });
  }
}

const alice = new Device(aliceToken, "node-alice", true);
const bob = new Device(bobToken, "node-bob", false);
assert.equal((await alice.next("hello_ok")).user, "alice");
assert.equal((await bob.next("hello_ok")).user, "bob");
assert.equal(alice.socket.protocol, "heddle.v1");
await alice.next("caught_up");
await bob.next("caught_up");
alice.send({ type: "typing_start", to: "bob" });
assert.equal((await bob.next("typing_indicator", { typing: true })).from, "alice");
const client_id = `node-${Date.now()}`;
alice.send({ type: "chat_message", client_id, to: "bob", text: "héllo 🧵", data: { n: [1, null] } });
const accepted = await alice.next("accepted", { client_id });
const got = await bob.next("new_message", { message_id: accepted.message_id });
assert.equal(got.text, "héllo 🧵");
assert.deepEqual(got.data, { n: [1, null] });
assert.equal((await alice.next("new_message", { client_id })).order, accepted.order);
bob.send({ type: "ack", offset: got.offset });
await alice.next("receipt", { status: "delivered", message_id: accepted.message_id });
bob.send({ type: "read_receipt", message_id: got.message_id });
await alice.next("receipt", { status: "read", message_id: accepted.message_id });
alice.send({ type: "presence_get", users: ["bob"] });
await alice.next("presence_update", { user: "bob" });
alice.send({ type: "ping" });
await alice.next("pong");
alice.send({ type: "no_such_type", ref: "r1" });
assert.equal((await alice.next("error", { ref: "r1" })).code, "unknown_type");
bob.socket.send("not json");
assert.equal(await bob.closed, 4501);
alice.socket.close();
await alice.closed;
clearTimeout(deadline);
console.log("node: all frames as the contract says");
