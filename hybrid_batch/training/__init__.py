"""Training of routers: from labels to an artefact.  Nothing that scores imports this room."""
