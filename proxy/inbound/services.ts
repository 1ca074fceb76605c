import type { Application } from './application.ts';
import type { ApplicationPools } from './application-pools.ts';
import type { Authorizer } from './authorizer.ts';
import type { PortProtocols } from './port-protocols.ts';
import type { TokenAuthenticator } from './token-authenticator.ts';

/** What all connections of the inbound path share. One a worker; made by its composition root. */
export interface InboundServices {
  readonly authorizer: Authorizer;
  readonly tokens: TokenAuthenticator;
  readonly application: Application;
  readonly pools: ApplicationPools;
  readonly ports: PortProtocols;
}
