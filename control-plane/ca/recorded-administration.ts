import type { Logger } from 'pino';
import { isWriteFailure } from '../../mesh/atomic-file.ts';
import { messageOf } from '../../mesh/errors.ts';
import type { ControlPlaneMetrics } from '../metrics.ts';
import type { AdministrationHandlers } from './administration.ts';

/**
 * The same handlers, with what operators change in the log of the control plane: whoever is paged must see there that somebody revoked an identity. A write
 * that fails is logged and counted too. NEVER the token: its id names it.
 */
export function recordedAdministration(
  handlers: AdministrationHandlers,
  { log, metrics }: { readonly log: Logger; readonly metrics: Pick<ControlPlaneMetrics, 'storageErrors'> },
): AdministrationHandlers {
  const watched = async <T>(what: string, change: () => T | Promise<T>): Promise<T> => {
    try {
      return await change();
    } catch (error) {
      if (isWriteFailure(error)) {
        metrics.storageErrors.inc();
        log.error({ code: error.code }, `${what} failed: ${error.message}`);
      } else log.info(`${what} was refused: ${messageOf(error)}`);
      throw error;
    }
  };
  return {
    ...handlers,
    createToken: async (request) => {
      const created = await watched('making a join token', () => handlers.createToken(request));
      const { namespace, serviceAccount } = request;
      const expiresAt = new Date(created.expiresAt).toISOString();
      log.info({ id: created.id, namespace, serviceAccount, expiresAt }, 'a join token was made');
      return created;
    },
    rotateRoot: (report) =>
      watched('the rotation of the root', () =>
        handlers.rotateRoot((progress) => {
          log.info({ step: progress.step }, `rotation: ${progress.message}`);
          report(progress);
        }),
      ),
    addRevocation: async (subject) => {
      const revocation = await watched('a revocation', () => handlers.addRevocation(subject));
      log.warn({ subject: revocation.value }, 'revoked');
      return revocation;
    },
    removeRevocation: async (subject) => {
      const removed = await watched('taking back a revocation', () => handlers.removeRevocation(subject));
      if (removed) log.warn({ subject }, 'no longer revoked');
      return removed;
    },
  };
}
