// Validates cert-manager's and the Prometheus operator's objects against the schemas of their CRDs, as the
// @kubernetes-models packages carry them. usage: node crds.mjs OBJECTS.json (a list); node_modules beside this file
import { readFileSync } from "node:fs";
import * as certManager from "@kubernetes-models/cert-manager/cert-manager.io/v1";
import * as prometheus from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const models = { "cert-manager.io/v1": certManager, "monitoring.coreos.com/v1": prometheus };
let checked = 0;
for (const object of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  const Model = models[object.apiVersion]?.[object.kind];
  if (!Model) throw new Error(`no schema for ${object.apiVersion} ${object.kind}`);
  try {
    new Model(object).validate();
  } catch (why) {
    console.error(`${object.kind} ${object.metadata.name}: ${why.message}`);
    process.exit(1);
  }
  checked += 1;
}
if (checked === 0) throw new Error("nothing to check");
console.log(`${checked} custom resources fit their CRDs`);
