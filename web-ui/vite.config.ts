import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

// For `npm run dev`: WHERRY_API is the API server, WHERRY_TOKEN a bearer token for it.
const target = process.env.WHERRY_API ?? 'https://127.0.0.1:6443';
const token = process.env.WHERRY_TOKEN;
const api = {
  target,
  secure: false,
  ws: true,
  headers: token ? { authorization: `Bearer ${token}` } : {},
};

export default defineConfig({
  base: './',
  plugins: [svelte()],
  build: { target: 'es2022', sourcemap: false, modulePreload: { polyfill: false }, chunkSizeWarningLimit: 700 },
  server: { proxy: { '/api': api, '/apis': api, '/openapi': api, '/version': api } },
  test: {
    projects: [
      { extends: true, test: { name: 'unit', include: ['src/**/*.test.ts'], environment: 'node' } },
      {
        extends: true,
        test: {
          name: 'browser',
          include: ['tests/**/*.test.ts'],
          environment: 'node',
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
});
