// Preloaded into the conformance suite, which sends no credentials: adds the hub's key to each request of the process.
import diagnostics from "node:diagnostics_channel";
import http from "node:http";

const key = `Bearer ${process.env.HUB_KEY}`;

diagnostics.subscribe("undici:request:create", ({ request }) => request.addHeader("authorization", key));

const plain = http.request;
http.request = (...given) => {
  const request = plain(...given);
  request.setHeader("authorization", key);
  return request;
};
