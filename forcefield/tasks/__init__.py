"""Properties other than the energy: any network's features, a head, and labels of graphs, atoms or edges."""
