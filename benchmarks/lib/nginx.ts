/** An nginx configuration of one process that writes nothing but its errors and keeps connections alive. @param http lines of its `http` block, as they are */
export function nginxConfiguration(directory: string, http: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `  ${kind}_temp_path ${directory}/${kind};`)
    .join('\n');
  return `daemon off;
master_process off;
pid ${directory}/pid;
error_log stderr error;
events { worker_connections 16384; }
http {
${temporary}
  access_log off;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
${http}}
`;
}
