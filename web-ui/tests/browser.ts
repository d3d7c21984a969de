// Chromium for the tests: what is wrong on a page fails the test that opened it.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { expect, vi } from 'vitest';

const ARTIFACTS = process.env.WHERRY_ARTIFACTS ?? new URL('../artifacts', import.meta.url).pathname;
const AXE = readFileSync(new URL('../node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
export const PATIENCE = Number(process.env.WHERRY_PATIENCE ?? 60_000);

export async function launch(): Promise<Browser> {
  // Chromium breaks off what it loads whenever the machine gets an address, and the pods' network just got some.
  await vi.waitUntil(() => execFileSync('ip', ['-o', 'address', 'show', 'tentative']).length === 0, { timeout: 30_000 });
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'],
  });
}

export interface Visit {
  context: BrowserContext;
  page: Page;
  /** What went wrong on the page: scripts' errors, refused content, requests elsewhere. */
  wrong: string[];
}

/** A browser of one person. `checked` contexts keep the page's content policy, as people's browsers do. */
export async function visit(browser: Browser, url: string, options: BrowserContextOptions = {}, prepare?: (context: BrowserContext) => Promise<void>): Promise<Visit> {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1280, height: 800 }, reducedMotion: 'reduce', ...options });
  context.setDefaultTimeout(PATIENCE);
  await prepare?.(context);
  const page = await context.newPage();
  const wrong: string[] = [];
  page.on('pageerror', (error) => wrong.push(`error: ${error.message}`));
  page.on('console', (message) => /Content Security Policy|Refused to/i.test(message.text()) && wrong.push(`policy: ${message.text()}`));
  page.on('dialog', (dialog) => (wrong.push(`dialog: ${dialog.message()}`), void dialog.dismiss()));
  page.on('request', (request) => !/^(https:\/\/127\.0\.0\.1|blob:|data:)/.test(request.url()) && wrong.push(`request: ${request.url()}`));
  await page.goto(url);
  return { context, page, wrong };
}

export async function shot(page: Page, name: string): Promise<void> {
  mkdirSync(ARTIFACTS, { recursive: true });
  // What was done before does not belong into the picture.
  await page.evaluate(() => document.querySelectorAll<HTMLElement>('.notice:not(.bad) button').forEach((button) => button.click()));
  for (const theme of ['light', 'dark']) {
    await paint(page, theme);
    await page.screenshot({ path: join(ARTIFACTS, `${name}-${theme}.png`), animations: 'disabled' });
  }
  await paint(page, 'light');
}

async function paint(page: Page, theme: string): Promise<void> {
  await page.evaluate((wanted) => (document.documentElement.dataset.theme = wanted), theme);
}

/** What axe finds that is serious, in both themes. */
export async function accessible(page: Page): Promise<void> {
  for (const theme of ['light', 'dark']) {
    await paint(page, theme);
    // Through the debugger, which the page's content policy does not bind.
    await page.evaluate(AXE);
    const found = (await page.evaluate('axe.run(document, { resultTypes: ["violations"] })')) as { violations: { id: string; impact: string; nodes: { html: string; failureSummary: string }[] }[] };
    const serious = found.violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
    expect(serious.map(({ id, nodes }) => `${theme} ${id}: ${nodes.slice(0, 3).map((node) => `${node.html} ${node.failureSummary}`).join(' | ')}`)).toEqual([]);
  }
  await paint(page, 'light');
}

/** Waits until a text is somewhere on the page. */
export async function sees(page: Page, text: string | RegExp): Promise<void> {
  try {
    await page.getByText(text).first().waitFor();
  } catch (error) {
    throw new Error(`${page.url()} does not show ${text}, but:\n${await page.locator('body').innerText()}`, { cause: error });
  }
}

export async function rows(page: Page): Promise<number> {
  return Number(await page.locator('[data-rows]').getAttribute('data-rows'));
}

/** Presses a button, sees what it would change, and applies it. */
export async function changes(page: Page, name: string, shown: string | RegExp): Promise<void> {
  await page.getByRole('button', { name, exact: true }).click();
  await confirm(page, shown);
}

/** Applies a change of which the dialog shows a line. */
export async function confirm(page: Page, shown: string | RegExp): Promise<void> {
  const dialog = page.getByRole('dialog');
  await dialog.locator('[data-diff] .cm-changedLine, [data-diff] .cm-deletedChunk').getByText(shown).first().waitFor();
  await dialog.getByRole('button', { name: 'Apply' }).click();
  await dialog.waitFor({ state: 'detached' });
}
