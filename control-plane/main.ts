import { pino } from 'pino';
import { loadControlPlaneConfig } from './config.ts';
import { ControlPlane } from './control-plane.ts';
import { ControlPlaneMetrics } from './metrics.ts';
import { openPlatform } from './open-platform.ts';

/**
 * `postern control-plane`: runs until SIGTERM or SIGINT, then stops within seconds; a second signal ends it at once.
 *
 * @throws PosternError where it cannot start
 */
export async function runControlPlane(configFile: string): Promise<void> {
  const config = loadControlPlaneConfig(configFile);
  // Levels by name and time as RFC 3339, as sidecars write them: one field of a log store has one type.
  const log = pino({
    level: config.logLevel,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  });
  const signal = nextSignal();
  const metrics = new ControlPlaneMetrics();
  const platform = await openPlatform(config, log, metrics);
  const plane = await ControlPlane.start({ config, platform, log, metrics });
  const name = await signal;
  process.once('SIGTERM', () => process.exit(1));
  process.once('SIGINT', () => process.exit(1));
  log.info({ signal: name }, 'stopping');
  await plane.stop();
  log.info('stopped');
}

function nextSignal(): Promise<string> {
  return new Promise((resolve) => {
    process.once('SIGTERM', () => resolve('SIGTERM'));
    process.once('SIGINT', () => resolve('SIGINT'));
  });
}
