// A Node.js app with one route that greets the consumer: unprotected, or behind @better-auth/api-key on PostgreSQL.
//
// Run as `node server.mjs PORT KIND DATABASE_URL KEYS_FILE`; KIND is `node` or `node-better-auth`. The latter makes its
// keys first, and writes them into the file.
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";

const [port, kind, databaseUrl, keysFile] = process.argv.slice(2);
const KEYS = 1000;

async function protectedBy() {
  const { betterAuth } = await import("better-auth");
  const { getMigrations } = await import("better-auth/db/migration");
  const { apiKey } = await import("@better-auth/api-key");
  const { default: pg } = await import("pg");
  const options = {
    database: new pg.Pool({ connectionString: databaseUrl }),
    secret: "the secret of a benchmark, long enough",
    baseURL: `http://127.0.0.1:${port}`,
    emailAndPassword: { enabled: true },
    telemetry: { enabled: false },
    // Its limit of 10 requests a day is for keys; neither it nor the one for addresses is measured.
    rateLimit: { enabled: false },
    plugins: [apiKey({ rateLimit: { enabled: false } })],
  };
  await (await getMigrations(options)).runMigrations();
  const auth = betterAuth(options);
  const { user } = await auth.api.signUpEmail({
    body: { email: "bench@example.com", password: "a password of a benchmark", name: "bench" },
  });
  const keys = [];
  for (let number = 0; number < KEYS; number++) {
    keys.push((await auth.api.createApiKey({ body: { name: `customer-${number}`, userId: user.id } })).key);
  }
  writeFileSync(keysFile, keys.join("\n"));
  return async (request) => {
    const key = request.headers.authorization?.replace(/^Bearer /, "") ?? "";
    const answer = await auth.api.verifyApiKey({ body: { key } });
    return answer.valid ? answer.key.name : null;
  };
}

const find = kind === "node" ? async () => "customer-10000000" : await protectedBy();

createServer(async (request, response) => {
  const name = await find(request);
  response.writeHead(name === null ? 401 : 200, { "content-type": "application/json" });
  response.end(JSON.stringify(name === null ? { detail: "no such key" } : { message: `Hello, ${name}!` }));
}).listen(Number(port), "127.0.0.1");
