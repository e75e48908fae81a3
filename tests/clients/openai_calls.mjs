// OpenAI's own client for JavaScript: `openai_calls.mjs BASE MODEL` prints what it gave, as JSON.
import OpenAI from "openai";

const [base, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: "any", maxRetries: 0 });
const texts = ["Hello, world!", "Тест!", "How do I reset my password?"];
const answer = await client.embeddings.create({ model, input: texts });
const floats = await client.embeddings.create({ model, input: texts, encoding_format: "float" });
const models = [];
for await (const one of client.models.list()) models.push(one.id);
let refusal = "it didn't fail";
try {
  await client.embeddings.create({ model, input: ["Hello", " "] });
} catch (error) {
  refusal = { status: error.status, message: error.message, param: error.param, code: error.code };
}
const vectors = (from) => from.data.map((one) => Array.from(one.embedding));
console.log(
  JSON.stringify({ texts, vectors: vectors(answer), floats: vectors(floats), models, refusal }),
);
