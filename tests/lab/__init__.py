"""The lab: a real gateway, real proxies and a real Docker engine, with faults whose cause is known because it was injected."""
