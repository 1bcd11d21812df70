"""How agents run: the router and its runs, the registry of agents and their lifecycle, runners, remote agents."""
