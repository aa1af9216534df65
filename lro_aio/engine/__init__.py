"""All of the asyncio: the engine that drives operations over a store and a scheduler."""
