// An OpenID Provider by `oidc-provider`, with its own pages for login and consent. Arguments: its port, the hub's URL.
import { generateKeyPairSync } from "node:crypto";
import Provider from "oidc-provider";

const [port, hub] = process.argv.slice(2);
const key = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "jwk" });
const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: { keys: [{ ...key, kid: "one", use: "sig", alg: "RS256" }] },
  cookies: { keys: ["of these tests"] },
  clients: [
    {
      client_id: "hubbub-ui",
      client_secret: "a secret/of the hub's, as the provider knows it",
      redirect_uris: [`${hub}/ui/callback`],
    },
    {
      client_id: "robot",
      client_secret: "a secret of the robot's",
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    },
  ],
  pkce: { required: () => true },
  claims: { groups: ["groups"], profile: ["name"] },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, groups: ["red", "blue"], name: id }) }),
  features: {
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => ({
        scope: "models tools",
        audience: resource,
        accessTokenFormat: "jwt",
        accessTokenTTL: 300,
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
});
provider.on("server_error", (_, error) => console.error(error));
provider.listen(Number(port), "127.0.0.1");
