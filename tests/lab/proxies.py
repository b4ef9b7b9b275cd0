"""The proxies: what each is told, how it is reloaded, and where it logs.

Beside the gateway every proxy has routes that go wrong on purpose. A route is a path prefix and a kind:
auth (401), deny (403), closed (nothing listens), hole (packets vanish), plain (no Upgrade header), loopback (127.0.0.1 of the proxy's own
container), dns (a name that nobody knows), socket (a Unix socket that is not there).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HTPASSWD = "ops:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/"
BCRYPT = "$2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG"


@dataclass(frozen=True, slots=True)
class Layout:
    """What a proxy's configuration is made of."""

    gateway: str  # ip:port
    closed: str  # ip:port at which nothing listens
    hole: str  # ip:port that swallows packets
    routes: Mapping[str, str]  # path prefix "/x/" → kind
    main: str = "gateway"  # kind of the route of all other paths
    idle: int = 75  # seconds
    format: str = ""  # of the access log
    level: str = "error"  # of the error log
    unknown_name: str = "gatway"
    socket: str = "/run/openclaw/gateway.sock"
    cut: int = 1  # seconds that old connections are given on a reload
    program: str = ""  # where it does not come from Debian


@dataclass(frozen=True, slots=True)
class Proxy:
    """One kind of proxy."""

    image: str
    formats: Mapping[str, int]  # access log format → resolution of its stamp, ms
    command: Callable[[Layout], str]
    files: Callable[[Layout], dict[str, str]]
    config: str  # the file that people would attach
    reload: tuple[str, ...]  # a docker command line, `{}` the container; empty: only a restart helps
    stdout: bool = False  # the access log is the container's stdout
    own_error_log: bool = True  # else the error log is the container's stderr
    faketime: bool = True  # honours LD_PRELOAD
    has_idle: bool = True
    down: tuple[int, ...] = (502,)  # its status when nothing listens upstream
    late: tuple[int, ...] = (504,)  # its status when the upstream does not answer
    pypi: str = ""


def target(layout: Layout, kind: str) -> str:
    """host:port of an upstream."""
    port = layout.gateway.rpartition(":")[2]
    return {
        "closed": layout.closed,
        "hole": layout.hole,
        "loopback": f"127.0.0.1:{port}",
        "dns": f"{layout.unknown_name}:{port}",
    }.get(kind, layout.gateway)


# ---- nginx
NGINX = {
    "combined": None,
    "main": '\'$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for"\'',
    "timed": '\'$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" rt=$request_time uct=$upstream_connect_time urt=$upstream_response_time us=$upstream_status\'',
    "json": 'escape=json \'{"ts":"$time_iso8601","msec":$msec,"client":"$remote_addr","port":$remote_port,"method":"$request_method","uri":"$request_uri","status":$status,"rt":$request_time,"upgrade":"$http_upgrade","upstream":"$upstream_addr","ustatus":"$upstream_status","urt":"$upstream_response_time","sent":$bytes_sent,"conn":$connection,"ua":"$http_user_agent"}\'',
    "upstreaminfo": '\'$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" $request_length $request_time [openclaw-gateway-18789] [] $upstream_addr $upstream_response_length $upstream_response_time $upstream_status $request_id\'',
}


def nginx_files(layout: Layout) -> dict[str, str]:
    def location(path: str, kind: str) -> str:
        tail = "/" if path != "/" else ""
        extra = {
            "auth": 'auth_basic "ops"; auth_basic_user_file /conf/htpasswd; ',
            "deny": "deny all; ",
            "plain": 'proxy_set_header Connection ""; proxy_set_header Upgrade ""; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Real-IP $remote_addr; ',
        }.get(kind, "")
        if kind == "dns":  # a variable, so that the name is asked for at each request and nginx starts without it
            return f"    location {path} {{ resolver 127.0.0.11 ipv6=off; resolver_timeout 3s; set $upstream {target(layout, kind)}; proxy_pass http://$upstream; }}\n"
        where = f"http://unix:{layout.socket}:{tail}" if kind == "socket" else f"http://{target(layout, kind)}{tail}"
        return f"    location {path} {{ {extra}proxy_pass {where}; }}\n"

    form = NGINX[layout.format]
    headers = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Real-IP $remote_addr;"
    text = f"""env LD_PRELOAD; env FAKETIME; env FAKETIME_DONT_FAKE_MONOTONIC; env DONT_FAKE_MONOTONIC;
worker_processes 1; user root root; pid /tmp/nginx.pid; error_log /logs/error.log {layout.level}; worker_shutdown_timeout {layout.cut}s;
events {{ worker_connections 512; }}
http {{
  client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c; uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e;
  {f"log_format access {form};" if form else ""}
  access_log /logs/access.log {"access" if form else "combined"};
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  proxy_connect_timeout 2s; proxy_read_timeout {layout.idle}s; proxy_send_timeout {layout.idle}s;
  {headers}
  server {{
    listen 80;
{location("/", layout.main)}{"".join(location(p, k) for p, k in layout.routes.items())}  }}
}}
"""
    return {"nginx.conf": text, "htpasswd": HTPASSWD + "\n"}


# ---- HAProxy
def haproxy_files(layout: Layout) -> dict[str, str]:
    log = {
        "httplog": "  option httplog\n",
        "ports": '  log-format "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r %bi:%bp"\n',
    }[layout.format]
    rules, backends = "", ""
    for path, kind in layout.routes.items():
        name = path.strip("/").replace("/", "-")
        if kind == "auth":
            rules += f"  http-request auth realm {name} if {{ path_beg {path} }}\n"
        elif kind == "deny":
            rules += f"  http-request deny deny_status 403 if {{ path_beg {path} }}\n"
        else:
            rules += f"  use_backend {name} if {{ path_beg {path} }}\n"
            backends += haproxy_backend(layout, name, kind)
    text = f"""global
  log stdout format raw local0 info
  hard-stop-after {layout.cut}s
resolvers docker
  nameserver dns 127.0.0.11:53
  hold nx 2s
defaults
  mode http
  log global
{log}  option forwardfor
  retries 1
  timeout connect 2s
  timeout client 60s
  timeout server 4s
  timeout tunnel {layout.idle}s
  timeout http-request 5s
frontend web
  bind :80
{rules}  default_backend gateway
{haproxy_backend(layout, "gateway", layout.main)}{backends}"""
    return {"haproxy.cfg": text}


def haproxy_backend(layout: Layout, name: str, kind: str) -> str:
    where = f"unix@{layout.socket}" if kind == "socket" else target(layout, kind)
    extra = " resolvers docker init-addr none" if kind == "dns" else ""
    plain = "  http-request del-header Upgrade\n  http-request del-header Connection\n" if kind == "plain" else ""
    return f"backend {name}\n{plain}  server {name}-1 {where}{extra}\n"


# ---- Caddy
def caddy_files(layout: Layout, *, new: bool) -> dict[str, str]:
    def upstream(kind: str) -> str:
        where = f"unix/{layout.socket}" if kind == "socket" else target(layout, kind)
        plain = "      header_up -Upgrade\n      header_up -Connection\n" if kind == "plain" else ""
        return f"    reverse_proxy {where} {{\n{plain}      transport http {{\n        dial_timeout 2s\n        response_header_timeout 4s\n      }}\n    }}\n"

    text = (
        "{\n  admin 127.0.0.1:2019\n  auto_https off\n  grace_period "
        + f"{layout.cut}s\n}}\n:80 {{\n  log {{\n    output file /logs/access.log\n    format json\n  }}\n"
    )
    for path, kind in layout.routes.items():
        if kind == "auth":
            text += f"  {'basic_auth' if new else 'basicauth'} {path}* {{\n    ops {BCRYPT}\n  }}\n"
        elif kind == "deny":
            text += f"  handle {path}* {{\n    respond 403\n  }}\n"
        else:
            text += f"  handle_path {path}* {{\n{upstream(kind)}  }}\n"
    return {"Caddyfile": text + f"  handle {{\n{upstream(layout.main)}  }}\n}}\n"}


# ---- Apache
APACHE = {
    "combined": '"%h %l %u %t \\"%r\\" %>s %O \\"%{Referer}i\\" \\"%{User-Agent}i\\""',
    "timed": '"%{begin:msec}t %{end:msec}t %D %a %{remote}p %>s %X \\"%r\\" \\"%{User-Agent}i\\" %{UNIQUE_ID}e"',
}
MODULES = "mpm_event authn_core authn_file authz_core authz_user authz_host auth_basic headers proxy proxy_http proxy_wstunnel unique_id"


def apache_files(layout: Layout) -> dict[str, str]:
    def location(path: str, kind: str) -> str:
        if kind == "deny":
            return f"<Location {path}>\n  Require all denied\n</Location>\nProxyPass {path} http://{layout.gateway}/ upgrade=websocket\n"
        auth = (
            f'<Location {path}>\n  AuthType Basic\n  AuthName "ops"\n  AuthUserFile /conf/htpasswd\n  Require valid-user\n</Location>\n'
            if kind == "auth"
            else ""
        )
        where = f"unix:{layout.socket}|http://localhost/" if kind == "socket" else f"http://{target(layout, kind)}/"
        upgrade = "" if kind == "plain" else " upgrade=websocket"
        return f"{auth}ProxyPass {path} {where}{upgrade} connectiontimeout=2 timeout={4 if kind == 'hole' else layout.idle} retry=0\n"

    text = "ServerRoot /tmp\nServerName gw.example.com\nPidFile /tmp/apache.pid\nDefaultRuntimeDir /tmp\nUser nobody\nGroup nogroup\n"
    text += "".join(f"LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so\n" for m in MODULES.split())
    text += f"Listen 80\nErrorLog /logs/error.log\nLogLevel {layout.level}\nLogFormat {APACHE[layout.format]} access\nCustomLog /logs/access.log access\nGracefulShutdownTimeout {layout.cut}\n"
    text += f"Timeout {layout.idle}\nProxyTimeout {layout.idle}\nProxyPreserveHost On\n"
    routes = [*layout.routes.items(), ("/", layout.main)]  # the first that fits wins
    return {"httpd.conf": text + "".join(location(p, k) for p, k in routes), "htpasswd": HTPASSWD + "\n"}


# ---- Traefik
def traefik_files(layout: Layout) -> dict[str, str]:
    static = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False}, "log": {"level": "DEBUG", "filePath": "/logs/error.log", "format": "common", "noColor": True},
        "accessLog": {"filePath": "/logs/access.log", "format": layout.format}, "serversTransport": {"forwardingTimeouts": {"dialTimeout": "2s", "responseHeaderTimeout": "4s"}},
        "providers": {"file": {"filename": "/conf/routes.yml", "watch": True}},
        "entryPoints": {"web": {"address": ":80", "transport": {"lifeCycle": {"graceTimeOut": f"{layout.cut}s"}, "respondingTimeouts": {"readTimeout": "0s"}}}},
    }  # fmt: skip
    routers, services = {}, {}
    middlewares = {
        "auth": {"basicAuth": {"users": [HTPASSWD]}},
        "deny": {"ipAllowList": {"sourceRange": ["203.0.113.250/32"]}},
        "plain": {"headers": {"customRequestHeaders": {"Upgrade": "", "Connection": ""}}},
    }
    for path, kind in {"/": layout.main, **layout.routes}.items():
        name = path.strip("/") or "all"
        routers[name] = {"rule": f"PathPrefix(`{path}`)", "service": name, "entryPoints": ["web"]} | (
            {"middlewares": [kind]} if kind in middlewares else {}
        )
        services[name] = {"loadBalancer": {"servers": [{"url": f"http://{target(layout, kind)}"}]}}
    return {
        "traefik.yml": json.dumps(static, indent=1),
        "routes.yml": json.dumps(
            {"http": {"routers": routers, "services": services, "middlewares": middlewares}}, indent=1
        ),
    }


# ---- Envoy
def envoy_files(layout: Layout) -> dict[str, str]:
    kinds = "type.googleapis.com/envoy.extensions"
    routes, clusters = [], []
    for path, kind in [*layout.routes.items(), ("/", layout.main)]:
        name = path.strip("/") or "gateway"
        match = {"prefix": path}
        if kind in ("auth", "deny"):
            routes.append({"match": match, "direct_response": {"status": 401 if kind == "auth" else 403}})
            continue
        action: dict[str, object] = {"cluster": name, "timeout": "0s", "idle_timeout": f"{layout.idle}s"}
        if kind == "plain":
            action["upgrade_configs"] = [{"upgrade_type": "websocket", "enabled": False}]
        if path != "/":
            action["prefix_rewrite"] = "/"
        routes.append({"match": match, "route": action})
        host, _, port = target(layout, kind).rpartition(":")
        address = (
            {"pipe": {"path": layout.socket}}
            if kind == "socket"
            else {"socket_address": {"address": host, "port_value": int(port)}}
        )
        clusters.append(
            {
                "name": name,
                "type": "STRICT_DNS" if kind == "dns" else "STATIC",
                "connect_timeout": "2s",
                "load_assignment": {
                    "cluster_name": name,
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
                },
            }
        )
    manager = {
        "@type": f"{kinds}.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "web", "upgrade_configs": [{"upgrade_type": "websocket"}], "use_remote_address": True,
        "access_log": [{"name": "file", "typed_config": {"@type": f"{kinds}.access_loggers.file.v3.FileAccessLog", "path": "/logs/access.log"}}],
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{kinds}.filters.http.router.v3.Router"}}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    }  # fmt: skip
    listener = {
        "name": "web",
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": 80}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {"envoy.json": json.dumps({"static_resources": {"listeners": [listener], "clusters": clusters}}, indent=1)}


PROXIES: Mapping[str, Proxy] = {
    "nginx": Proxy("nginx:1.22", {"combined": 1000, "main": 1000, "timed": 1000, "json": 1, "upstreaminfo": 1000}, lambda _: 'nginx -c /conf/nginx.conf -g "daemon off;"', nginx_files, "nginx.conf", ("exec", "{}", "nginx", "-c", "/conf/nginx.conf", "-s", "reload")),
    "haproxy": Proxy("haproxy:2.6", {"httplog": 1, "ports": 1}, lambda _: "haproxy -W -f /conf/haproxy.cfg", haproxy_files, "haproxy.cfg", ("kill", "-s", "USR2", "{}"), stdout=True, own_error_log=False, down=(503,), late=(503, 504)),
    "caddy": Proxy("caddy:2.6", {"json": 1}, lambda _: "caddy run --config /conf/Caddyfile --adapter caddyfile", lambda layout: caddy_files(layout, new=False), "Caddyfile", ("exec", "{}", "caddy", "reload", "--force", "--config", "/conf/Caddyfile", "--adapter", "caddyfile"), own_error_log=False, faketime=False, has_idle=False, late=(502, 504)),
    "caddy-2.11": Proxy("caddy:2.11", {"json": 1}, lambda layout: f"{layout.program} run --config /conf/Caddyfile --adapter caddyfile", lambda layout: caddy_files(layout, new=True), "Caddyfile", ("exec", "{}", "/opt/proxy", "reload", "--force", "--config", "/conf/Caddyfile", "--adapter", "caddyfile"), own_error_log=False, faketime=False, has_idle=False, late=(502, 504), pypi="caddy-2.11"),
    "apache": Proxy("httpd:2.4", {"combined": 1000, "timed": 1}, lambda _: "apache2 -f /conf/httpd.conf -D FOREGROUND", apache_files, "httpd.conf", (), faketime=True, down=(503,), late=(502, 503, 504)),
    "traefik": Proxy("traefik:v3.7", {"json": 1, "common": 1000}, lambda layout: f"{layout.program} --configfile=/conf/traefik.yml", traefik_files, "traefik.yml", (), faketime=False, has_idle=False, down=(502,), late=(504,), pypi="traefik"),
    "envoy": Proxy("envoyproxy/envoy:v1.40", {"default": 1}, lambda layout: f"{layout.program} -c /conf/envoy.json --log-path /logs/error.log --drain-time-s {layout.cut} --disable-hot-restart", envoy_files, "envoy.json", (), faketime=False, down=(503,), late=(503, 504), pypi="envoy"),
}  # fmt: skip
FAILING = ("closed", "hole", "plain", "loopback", "dns", "socket")
