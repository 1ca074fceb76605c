import { portProtocol } from '../../control-plane/registry/port-protocol.ts';
import { objectsIn } from '../../kubernetes/injection/pod.ts';
import { asObject, asString, field } from '../../policy/json.ts';
import { check, type Facts, listed, type Report } from './facts.ts';
import { namespaceOf, namespacesWithSidecars, placeOf } from './pods.ts';

export const SERVICE_CHECKS = [check('service-ports', 'after', checkPorts)];

/** A port that does not say what it carries is found out from the first bytes; protocols in which the server speaks first then wait for a while. */
function checkPorts(facts: Facts, report: Report): void {
  const services = report.need(facts.services, 'the services');
  if (services === null) return;
  const namespaces = namespacesWithSidecars(facts);
  const unnamed = services
    .filter((service) => namespaces.has(namespaceOf(service)))
    .flatMap((service) =>
      objectsIn(field(asObject(field(service, 'spec')), 'ports')).flatMap((port) => {
        const isTcp = (asString(field(port, 'protocol')) ?? 'TCP') === 'TCP';
        const name = asString(field(port, 'name')) ?? '';
        const isNamed = portProtocol(name, asString(field(port, 'appProtocol'))) !== null;
        return isTcp && !isNamed ? [`${placeOf(service)}:${String(field(port, 'port'))}`] : [];
      }),
    );
  if (unnamed.length === 0) {
    report.ok('the ports of services in the mesh say what they carry');
    return;
  }
  report.warning(
    `ports of services do not say what they carry, and are guessed at: ${listed(unnamed)}`,
    'set appProtocol, or begin the name with the protocol: http-api, grpc-orders, tcp-database',
  );
}
